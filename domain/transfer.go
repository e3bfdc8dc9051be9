package domain

// AccountImported says that the account comes from another VoltRun, with everything before this event.
type AccountImported struct {
	Source string `json:"source,omitempty"` // the name of the log that it comes from
	Events int    `json:"events"`
	SHA256 string `json:"sha256"` // of what the file held, in hex
}

// EventType implements Event.
func (AccountImported) EventType() string { return "account.imported" }
