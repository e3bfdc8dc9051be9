package domain

import "github.com/google/uuid"

// ActorKind says what kind of actor caused an event.
type ActorKind string

// The kinds of actor.
const (
	ActorUser   ActorKind = "user"    // a person with an access token; the id is the account's
	ActorAPIKey ActorKind = "api_key" // a program with an API key; the id is the key's
	ActorWorker ActorKind = "worker"  // a worker that runs functions; the id is the worker's
	ActorSystem ActorKind = "system"  // VoltRun itself, or somebody who is not known yet, such as at registration
)

// Actor is who caused an event.
type Actor struct {
	Kind   ActorKind
	ID     uuid.UUID // nil for ActorSystem
	Prefix string    // of an ActorAPIKey: the part of the key that is no secret
}
