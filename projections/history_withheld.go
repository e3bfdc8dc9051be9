package projections

import (
	"encoding/json"

	"github.com/voltrun/voltrun/domain"
)

// withheld are the fields of events that history does not show: hashes of tokens, of keys and of requests. They say nothing
// to anybody who reads a history, and stay in bundles, where they are proved.
var withheld = map[string]string{
	domain.SessionStarted{}.EventType():    "token_hash",
	domain.SessionRefreshed{}.EventType():  "token_hash",
	domain.KeyCreated{}.EventType():        "hash",
	domain.RequestCarriedOut{}.EventType(): "fingerprint",
}

// notShown stands for what is withheld.
var notShown = json.RawMessage(`"(not shown)"`)

// shown is an event's content as history shows it.
func shown(eventType string, content []byte) (json.RawMessage, error) {
	field, has := withheld[eventType]
	if !has {
		return content, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(content, &members); err != nil {
		return nil, err
	}
	if _, has := members[field]; has {
		members[field] = notShown
	}
	return json.Marshal(members)
}
