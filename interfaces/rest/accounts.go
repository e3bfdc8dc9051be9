package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

// signedInBody answers whoever signed in, one way or another.
type signedInBody struct {
	Token        string              `json:"token"`
	ExpiresAt    time.Time           `json:"expires_at"` // of the token
	RefreshToken string              `json:"refresh_token"`
	User         projections.Account `json:"user"`
}

func (a *API) register(ctx context.Context, r *request) (int, any, error) {
	var body struct {
		Email    string `json:"email"`
		Password string `json:"password"`
		Name     string `json:"name"`
	}
	if err := r.decode(&body); err != nil {
		return 0, nil, err
	}
	cmd := domain.RegisterAccount{Email: body.Email, Password: body.Password, Name: body.Name}
	login, err := r.commands.RegisterAccount.Handle(ctx, r.origin(), cmd)
	if err != nil {
		return 0, nil, err
	}
	a.awaitSeen(ctx, "accounts", login.Position)
	return a.signedIn(http.StatusCreated, login)
}

func (a *API) logIn(ctx context.Context, r *request) (int, any, error) {
	var body struct {
		Email    string `json:"email"`
		Password string `json:"password"`
	}
	if err := r.decode(&body); err != nil {
		return 0, nil, err
	}
	login, err := r.commands.LogIn.Handle(ctx, r.origin(), domain.LogIn{Email: body.Email, Password: body.Password})
	if err != nil {
		return 0, nil, err
	}
	return a.signedIn(http.StatusOK, login)
}

var errKeyNoSession = &domain.Error{Code: domain.Unauthorized,
	Message: "An API key has no session to refresh. Send an access token or a refresh_token."}

// refresh prolongs the session of a refresh token or, without one, of a valid access token. A refresh token counts alone:
// clients send it together with the access token that has just expired.
func (a *API) refresh(ctx context.Context, r *request) (int, any, error) {
	var body struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := r.decodeOptional(&body); err != nil {
		return 0, nil, err
	}
	login, err := a.refreshBy(ctx, r, body.RefreshToken)
	if err != nil {
		return 0, nil, err
	}
	return a.signedIn(http.StatusOK, login)
}

func (a *API) refreshBy(ctx context.Context, r *request, refreshToken string) (commands.Login, error) {
	if refreshToken != "" {
		return r.commands.RefreshSession.ByToken(ctx, r.origin(), refreshToken)
	}
	who, err := a.authenticate(r.Request)
	if err != nil {
		return commands.Login{}, err
	}
	if who.actor.Kind == domain.ActorAPIKey {
		return commands.Login{}, errKeyNoSession
	}
	return r.commands.RefreshSession.BySession(ctx, r.origin(), who.sessionID)
}

func (a *API) signedIn(status int, login commands.Login) (int, any, error) {
	token, expiresAt, err := a.tokens.issue(login.Account.ID, login.SessionID)
	if err != nil {
		return 0, nil, err
	}
	return status, signedInBody{
		Token: token, ExpiresAt: expiresAt, RefreshToken: login.RefreshToken,
		User: projections.Account{ID: login.Account.ID, Email: login.Account.Email, Name: login.Account.Name},
	}, nil
}

// me answers who is asking. An account that is not there any more cannot ask.
func (a *API) me(ctx context.Context, r *request) (int, any, error) {
	account, err := a.queries.Accounts.Get(ctx, r.caller.accountID)
	if domain.IsCode(err, domain.NotFound) {
		return 0, nil, errTokenInvalid
	}
	return http.StatusOK, map[string]any{"user": account}, err
}

var errEraseByKey = &domain.Error{Code: domain.Forbidden,
	Message: "An API key cannot erase its account. Log in and send the access token instead."}

// eraseAccount ends the account of whoever asks. The body may be absent; a password in it confirms that it is meant.
func (a *API) eraseAccount(ctx context.Context, r *request) (int, any, error) {
	if r.caller.actor.Kind == domain.ActorAPIKey {
		return 0, nil, errEraseByKey
	}
	var body struct {
		Password *string `json:"password"`
	}
	if err := r.decodeOptional(&body); err != nil {
		return 0, nil, err
	}
	cmd := domain.EraseAccount{AccountID: r.caller.accountID, Password: body.Password}
	if _, err := r.commands.EraseAccount.Handle(ctx, r.origin(), cmd); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, messageBody{"The account was erased. Nobody can read any more what it held, and its email address is free."}, nil
}

// showErasures tells the operator how far the erasures of accounts are.
func (a *API) showErasures(ctx context.Context, _ *request) (int, any, error) {
	status, err := a.accounts.Erasures(ctx)
	return http.StatusOK, status, err
}
