package commands

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// RefreshSessionHandler prolongs sessions.
type RefreshSessionHandler struct{ journal *journal }

// ByToken exchanges a refresh token for its successor. A token that was exchanged before ends its session.
func (h RefreshSessionHandler) ByToken(ctx context.Context, origin Origin, token string) (Login, error) {
	presented, ok := parseRefreshToken(token)
	if !ok {
		return Login{}, domain.ErrSessionEnded
	}
	return h.refresh(ctx, origin, presented.sessionID, presented.hash())
}

// BySession prolongs a session whose access token the caller has proved to hold.
func (h RefreshSessionHandler) BySession(ctx context.Context, origin Origin, sessionID uuid.UUID) (Login, error) {
	return h.refresh(ctx, origin, sessionID, nil)
}

func (h RefreshSessionHandler) refresh(ctx context.Context, origin Origin, sessionID uuid.UUID, presented []byte) (Login, error) {
	session, err := load[domain.Session](ctx, h.journal, sessionID)
	if err != nil {
		return Login{}, err
	}
	account, err := load[domain.Account](ctx, h.journal, session.state.AccountID)
	if err != nil {
		return Login{}, err
	}
	successor := refreshToken{sessionID: sessionID, secret: h.journal.newSecret()}
	cmd := domain.RefreshSession{Presented: presented, Successor: successor.hash(), Now: h.journal.now()}
	origin.Actor = domain.Actor{Kind: domain.ActorUser, ID: session.state.AccountID}
	position, err := decide(ctx, h.journal, origin.metadata(session.state.AccountID), sessionID, cmd.Decide)
	if err != nil {
		return Login{}, err
	}
	return Login{Account: account.state, SessionID: sessionID, RefreshToken: successor.String(), Position: position}, nil
}
