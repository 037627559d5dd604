//! Wire contracts: the gRPC services of the node and the table of the Kubernetes API.
