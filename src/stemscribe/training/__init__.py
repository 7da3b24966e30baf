"""Teaching a model: losses, the Lightning module, and the bookkeeping that lets a killed run go on."""
