package postgres

import "time"

// SetBatchTimeout makes the writer give up sooner. It must be called before the first append.
func (s *Store) SetBatchTimeout(d time.Duration) { s.writer.timeout = d }
