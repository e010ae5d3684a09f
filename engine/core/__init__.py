"""Pure decisions: standard library only, no clock, thread, socket or log. Functions take `now`."""
