"""What people see: progress while it is measured, tables on a terminal, and the page with its plots and figures."""
