//! toolbox: small network, process and load tools for samples and tests.
