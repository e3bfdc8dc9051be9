package rest

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// operatorAudience is what an operator's token is for: it opens nothing else, and an access token does not open this.
const operatorAudience = "voltrun-operator"

// operatorTokenLifetime is enough for one command.
const operatorTokenLifetime = 5 * time.Minute

// OperatorToken makes a token for whoever can read the secret of a server, and so runs it.
func OperatorToken(secret []byte, now time.Time) (string, error) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Issuer: tokenIssuer, Audience: jwt.ClaimStrings{operatorAudience},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(operatorTokenLifetime)),
	}).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("sign an operator's token: %w", err)
	}
	return token, nil
}

var errOperatorByKey = &domain.Error{Code: domain.Forbidden,
	Message: "An API key cannot operate the server. Log in to this account and send the access token instead, or use the command voltrun on the server's host."}

// operator knows who runs this VoltRun: whoever shows an operator's token, and the holder of the first account. API keys of
// that account do not count: they are handed to programs, and one that leaks must not open the server.
type operator struct {
	secret       []byte
	parser       *jwt.Parser
	firstAccount func(context.Context) (uuid.UUID, error)

	mu    sync.Mutex
	first uuid.UUID // nil until it is known; then it never changes
}

func newOperator(secret []byte, now func() time.Time, firstAccount func(context.Context) (uuid.UUID, error)) *operator {
	return &operator{secret: secret, firstAccount: firstAccount, parser: newTokenParser(operatorAudience, now)}
}

func (o *operator) hasToken(credential string) bool {
	_, err := o.parser.ParseWithClaims(credential, &jwt.RegisteredClaims{}, func(*jwt.Token) (any, error) { return o.secret, nil })
	return err == nil
}

func (o *operator) holds(ctx context.Context, account uuid.UUID) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first == uuid.Nil {
		var err error
		if o.first, err = o.firstAccount(ctx); err != nil {
			return false, fmt.Errorf("find the first account: %w", err)
		}
	}
	return o.first == account && account != uuid.Nil, nil
}

// authenticateOperator lets the operator pass. Whoever else is signed in finds nothing there.
func (a *API) authenticateOperator(r *http.Request) (caller, error) {
	if a.operator.hasToken(credentialOf(r)) {
		return caller{actor: domain.Actor{Kind: domain.ActorSystem}}, nil
	}
	who, err := a.authenticate(r)
	if err != nil {
		return caller{}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	isOperator, err := a.operator.holds(ctx, who.accountID)
	switch {
	case err != nil:
		return caller{}, err
	case !isOperator:
		return caller{}, nothingAt(r)
	case who.actor.Kind == domain.ActorAPIKey:
		return caller{}, errOperatorByKey
	}
	return who, nil
}
