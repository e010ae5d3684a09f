"""What chaos experiments are given from here: engines, traffic, a command and a fixture."""
