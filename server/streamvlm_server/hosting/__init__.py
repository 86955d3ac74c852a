"""The process around the app: sockets, timeouts of slow peers, and the stop that loses nothing."""
