package domain

import (
	"crypto/subtle"
	"slices"
	"time"

	"github.com/google/uuid"
)

// RefreshLifetime is how long a refresh token stays good when it is not used.
const RefreshLifetime = 30 * 24 * time.Hour

// Session is one login and the family of refresh tokens that descends from it. Only the newest token of a family is
// good. A token that was already exchanged and comes again was copied by somebody, so it ends the whole family.
type Session struct {
	ID        uuid.UUID
	AccountID uuid.UUID
	TokenHash []byte   // SHA-256 of the newest refresh token's secret
	Exchanged [][]byte // those of the tokens before it
	ExpiresAt time.Time
	Revoked   bool
}

type (
	// SessionStarted opens a session: a registration or a login.
	SessionStarted struct {
		SessionID uuid.UUID `json:"session_id"`
		AccountID uuid.UUID `json:"account_id"`
		TokenHash []byte    `json:"token_hash"`
		ExpiresAt time.Time `json:"expires_at"`
	}

	// SessionRefreshed replaces the refresh token by its successor.
	SessionRefreshed struct {
		TokenHash []byte    `json:"token_hash"`
		ExpiresAt time.Time `json:"expires_at"`
	}

	// SessionRevoked ends the session for ever.
	SessionRevoked struct {
		Reason string `json:"reason"`
	}
)

// EventType implements Event.
func (SessionStarted) EventType() string { return "session.started" }

// EventType implements Event.
func (SessionRefreshed) EventType() string { return "session.refreshed" }

// EventType implements Event.
func (SessionRevoked) EventType() string { return "session.revoked" }

// Evolve implements State.
func (s Session) Evolve(event Event) Session {
	switch e := event.(type) {
	case SessionStarted:
		s = Session{ID: e.SessionID, AccountID: e.AccountID, TokenHash: e.TokenHash, ExpiresAt: e.ExpiresAt}
	case SessionRefreshed:
		s.Exchanged = append(slices.Clip(s.Exchanged), s.TokenHash)
		s.TokenHash, s.ExpiresAt = e.TokenHash, e.ExpiresAt
	case SessionRevoked:
		s.Revoked = true
	}
	return s
}

// StartSession asks for a new session.
type StartSession struct {
	SessionID uuid.UUID
	AccountID uuid.UUID
	TokenHash []byte
	Now       time.Time
}

// Decide implements the rule: a session id is used once.
func (c StartSession) Decide(s Session) ([]Event, error) {
	if s.ID != uuid.Nil {
		return nil, Errorf(Conflict, "Session %s exists already.", c.SessionID)
	}
	return []Event{SessionStarted{
		SessionID: c.SessionID, AccountID: c.AccountID, TokenHash: c.TokenHash, ExpiresAt: c.Now.Add(RefreshLifetime),
	}}, nil
}

// RefreshSession exchanges the newest refresh token for its successor. Presented is the hash of the token that the
// caller holds; it is nil when the caller proved the session by a valid access token instead.
type RefreshSession struct {
	Presented []byte
	Successor []byte
	Now       time.Time
}

// ErrSessionEnded answers a refresh that cannot be had. It does not tell the reasons apart, so that a thief learns
// nothing.
var ErrSessionEnded = &Error{Code: Unauthorized, Message: "The session has ended. Log in again."}

// Decide implements rotation. For a token that was exchanged before, it returns the revocation *and* ErrSessionEnded:
// the caller appends the event and then refuses. A token that never was one of the session's is refused without a trace,
// so that nobody can end a session by guessing.
func (c RefreshSession) Decide(s Session) ([]Event, error) {
	if s.ID == uuid.Nil || s.Revoked || !c.Now.Before(s.ExpiresAt) {
		return nil, ErrSessionEnded
	}
	if slices.ContainsFunc(s.Exchanged, c.presents) {
		return []Event{SessionRevoked{Reason: "a refresh token was used twice"}}, ErrSessionEnded
	}
	if c.Presented != nil && !c.presents(s.TokenHash) {
		return nil, ErrSessionEnded
	}
	return []Event{SessionRefreshed{TokenHash: c.Successor, ExpiresAt: c.Now.Add(RefreshLifetime)}}, nil
}

func (c RefreshSession) presents(hash []byte) bool {
	return subtle.ConstantTimeCompare(c.Presented, hash) == 1
}
