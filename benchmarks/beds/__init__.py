"""Places to prove the client that are not its own tests: real sockets, other people's servers.  Opt-in; see
docs/proof.md."""
