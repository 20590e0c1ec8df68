//! One data plane of a Gateway: obtains an identity, follows the stream of the controller, and gives it to the proxy.
