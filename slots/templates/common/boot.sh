# At boot, before the services: what a cut left behind is found, and the slot that the link names serves.
slotctl_boot() { :; }
slotctl_stop() { :; }
