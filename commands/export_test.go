package commands

import "time"

// SetClock sets the time that the service and its handlers go by.
func (i *Idempotency) SetClock(now func() time.Time) { i.handlers.journal.now = now }
