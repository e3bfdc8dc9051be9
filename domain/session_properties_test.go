package domain_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
)

// However refresh tokens are presented, by their owner, by a thief or by somebody who guesses: each is exchanged once at
// most, one that comes again ends the family, and a family that has ended gives nothing.
func TestARefreshTokenBuysOneSuccessorOrTheEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &sessionMachine{id: uuid.New(), account: uuid.New(), now: now}
		m.start(t)
		t.Repeat(map[string]func(*rapid.T){
			"start again":             m.startAgain,
			"present the newest":      m.presentNewest,
			"present an old one":      m.presentOld,
			"guess":                   m.guess,
			"prove the session":       m.proveSession,
			"wait":                    m.wait,
			"wait until it is nearly": m.waitLong,
		})
	})
}

// sessionMachine knows a session by the tokens that it gave out.
type sessionMachine struct {
	id, account uuid.UUID
	history     []domain.Event
	now         time.Time
	expires     time.Time
	tokens      [][]byte // all, the newest last
	revoked     bool
}

func (m *sessionMachine) state() domain.Session { return domain.Fold[domain.Session](m.history...) }
func (m *sessionMachine) ended() bool           { return m.revoked || !m.now.Before(m.expires) }

func (m *sessionMachine) newToken() []byte {
	m.tokens = append(m.tokens, fmt.Appendf(nil, "token %d", len(m.tokens)))
	return m.tokens[len(m.tokens)-1]
}

func (m *sessionMachine) start(t *rapid.T) {
	cmd := domain.StartSession{SessionID: m.id, AccountID: m.account, TokenHash: m.newToken(), Now: m.now}
	events, err := cmd.Decide(m.state())
	require.NoError(t, err)
	m.history, m.expires = append(m.history, events...), m.now.Add(domain.RefreshLifetime)
	require.Equal(t, domain.Session{ID: m.id, AccountID: m.account, TokenHash: cmd.TokenHash, ExpiresAt: m.expires}, m.state())
}

func (m *sessionMachine) startAgain(t *rapid.T) {
	events, err := domain.StartSession{SessionID: m.id, AccountID: uuid.New(), TokenHash: []byte("other"), Now: m.now}.Decide(m.state())
	requireRefused(t, domain.Conflict, events, err)
}

func (m *sessionMachine) presentNewest(t *rapid.T) { m.exchange(t, m.tokens[len(m.tokens)-1]) }

func (m *sessionMachine) proveSession(t *rapid.T) { m.exchange(t, nil) }

// exchange presents what is good as long as the session lives.
func (m *sessionMachine) exchange(t *rapid.T, presented []byte) {
	successor := fmt.Appendf(nil, "token %d", len(m.tokens))
	events, err := domain.RefreshSession{Presented: presented, Successor: successor, Now: m.now}.Decide(m.state())
	if m.ended() {
		require.Equal(t, domain.ErrSessionEnded, requireRefused(t, domain.Unauthorized, events, err))
		return
	}
	require.NoError(t, err)
	m.newToken()
	m.history, m.expires = append(m.history, events...), m.now.Add(domain.RefreshLifetime)
	require.Equal(t, successor, m.state().TokenHash)
	require.Equal(t, m.expires, m.state().ExpiresAt)
	require.Equal(t, m.account, m.state().AccountID)
}

func (m *sessionMachine) presentOld(t *rapid.T) {
	if len(m.tokens) < 2 {
		t.Skip("there is no old one")
	}
	old := rapid.SampledFrom(m.tokens[:len(m.tokens)-1]).Draw(t, "old token")
	events, err := domain.RefreshSession{Presented: old, Successor: []byte("never"), Now: m.now}.Decide(m.state())
	require.Equal(t, domain.ErrSessionEnded, err)
	if m.ended() {
		require.Empty(t, events)
		return
	}
	require.Len(t, events, 1)
	m.history, m.revoked = append(m.history, events...), true
	require.True(t, m.state().Revoked)
}

func (m *sessionMachine) guess(t *rapid.T) {
	guessed := rapid.SampledFrom([][]byte{{}, []byte("token"), []byte("token 00"), []byte("never")}).Draw(t, "guess")
	events, err := domain.RefreshSession{Presented: guessed, Successor: []byte("never"), Now: m.now}.Decide(m.state())
	requireRefused(t, domain.Unauthorized, events, err)
}

func (m *sessionMachine) wait(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(0, 3600).Draw(t, "seconds")) * time.Second)
}

// waitLong waits until just before the session's end, to its end, or just beyond.
func (m *sessionMachine) waitLong(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "hurry") > 0 {
		t.Skip("it should live for a while")
	}
	if at := m.expires.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "beyond"))); at.After(m.now) {
		m.now = at
	}
}

func TestNobodyRefreshesASessionThatNeverWas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		presented := rapid.SampledFrom([][]byte{nil, {}, []byte("token")}).Draw(t, "presented")
		events, err := domain.RefreshSession{Presented: presented, Successor: []byte("next"), Now: now}.Decide(domain.Session{ExpiresAt: now.Add(time.Hour)})
		requireRefused(t, domain.Unauthorized, events, err)
	})
}
