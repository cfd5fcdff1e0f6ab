"""Who has which address, from the cluster or the container engine, as statements with validity in time."""
