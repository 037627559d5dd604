//! What every binary shares: options, logging, metrics, health, TLS, API client, informers, work queue, leader election, events and shutdown.
