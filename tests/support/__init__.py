"""What tests of several services share: real servers to test against, and clients of them."""
