"""The sweep: what is called off where (`points`, `plan`), how (`driver`), and what is looked at afterwards."""
