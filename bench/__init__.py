"""What statehold costs, side by side with what people use today: `python -m bench`."""
