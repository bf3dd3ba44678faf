"""What uvicorn's protocols have in common once they take ready bytes."""
