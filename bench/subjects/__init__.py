"""What is compared: Backplane, the bare clients, and other libraries, each used as its documentation teaches.

One file per library. Its class has two sides, which run in two processes: `sender` publishes the numbered events of a
turn, `receiver` holds the sockets of all users and hands each event over where the library hands it to a socket.
"""
