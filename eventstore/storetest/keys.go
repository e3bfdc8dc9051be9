package storetest

import "github.com/voltrun/voltrun/eventstore"

// Codec is the codec of the domain for tests, with the keys of the accounts in this vault. Two codecs over one vault read
// each other's events.
func Codec(vault eventstore.Vault) *eventstore.Codec {
	return eventstore.DomainCodec(eventstore.NewKeyRing(vault, eventstore.MasterKey{1, 2, 3}))
}
