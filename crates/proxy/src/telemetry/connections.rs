//! Counters of connections, TLS handshakes, HTTP/2 budgets and refused requests.
