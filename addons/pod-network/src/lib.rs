//! pod-network: the CNI configuration of a node and its routes to the others.
