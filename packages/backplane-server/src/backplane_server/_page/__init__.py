"""The page of the demo and of `/admin`: what it is, what it is allowed to do, and what it asks for."""
