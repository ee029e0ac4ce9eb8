"""What the tests of the wire share: transports without sockets, a recording application, raw servers and clients."""
