"""`/admin`: the page for a real fleet, behind a role."""
