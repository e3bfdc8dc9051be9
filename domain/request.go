package domain

import "time"

// RequestCarriedOut is the receipt of a request that its client named by an idempotency key, and may therefore send again.
// It is appended together with what the request did. Fingerprint tells another request under the same key; nothing can be
// learned from it without the key. At is the time that the request's command took for now.
type RequestCarriedOut struct {
	Fingerprint []byte    `json:"fingerprint"`
	At          time.Time `json:"at"`
}

// EventType implements Event.
func (RequestCarriedOut) EventType() string { return "request.carried_out" }
