"""Where a scenario runs. Every fleet turns a scenario and its plan into a history."""
