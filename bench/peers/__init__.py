"""Other libraries at the same work, each by the fastest way that its documentation shows.

One file per library, with two functions or more: a publisher, which gives `publish(number)`, and `receive`, which hands
events to `take` at the point where the library hands them to a socket.
"""
