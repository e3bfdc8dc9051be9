package rest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/interfaces/rest/resttest"
)

// claimsOf are what a good token of this account says, with changes; a nil change leaves the claim out.
func claimsOf(who object, changes jwt.MapClaims) jwt.MapClaims {
	claims := jwt.MapClaims{
		"iss": "voltrun", "aud": "voltrun-api", "sub": who["user"].(object)["id"], "sid": uuid.NewString(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	return claims
}

func sign(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	require.NoError(t, err)
	return token
}

// forgeries are credentials that must open nothing.
func forgeries(t *testing.T, s stage) map[string]string {
	secret := []byte(resttest.Secret)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(&private.PublicKey))})
	good := claimsOf(s.who, nil)
	valid := sign(t, jwt.SigningMethodHS256, secret, good)
	parts := strings.Split(valid, ".")
	encode := base64.RawURLEncoding.EncodeToString
	none := encode([]byte(`{"alg":"none","typ":"JWT"}`))
	key := s.do("POST", "/api/keys", object{"name": "deleted"}, 201)
	s.do("DELETE", "/api/keys/"+key["id"].(string), nil, 200)

	return map[string]string{
		"garbage":                           "garbage",
		"garbage in three parts":            "a.b.c",
		"empty parts":                       "..",
		"a refresh token":                   s.who["refresh_token"].(string),
		"algorithm none":                    sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good),
		"algorithm none with the signature": none + "." + parts[1] + "." + parts[2],
		"algorithm NONE":                    encode([]byte(`{"alg":"NONE"}`)) + "." + parts[1] + ".",
		"no signature":                      parts[0] + "." + parts[1] + ".",
		"another's signature":               parts[0] + "." + parts[1] + "." + strings.Split(sign(t, jwt.SigningMethodHS256, secret, claimsOf(s.who, jwt.MapClaims{"x": 1})), ".")[2],
		"changed claims":                    parts[0] + "." + encode([]byte(`{"sub":"`+uuid.NewString()+`"}`)) + "." + parts[2],
		"another key":                       sign(t, jwt.SigningMethodHS256, []byte("another secret, longer than 32 bytes"), good),
		"an empty key":                      sign(t, jwt.SigningMethodHS256, []byte{}, good),
		"HS512":                             sign(t, jwt.SigningMethodHS512, secret, good),
		"HS384":                             sign(t, jwt.SigningMethodHS384, secret, good),
		"RS256":                             sign(t, jwt.SigningMethodRS256, private, good),
		"a public key as the secret":        sign(t, jwt.SigningMethodHS256, public, good),
		"expired":                           sign(t, jwt.SigningMethodHS256, secret, claimsOf(s.who, jwt.MapClaims{"exp": time.Now().Add(-time.Second).Unix()})),
		"without an end":                    sign(t, jwt.SigningMethodHS256, secret, claimsOf(s.who, jwt.MapClaims{"exp": nil})),
		"not yet good":                      sign(t, jwt.SigningMethodHS256, secret, claimsOf(s.who, jwt.MapClaims{"nbf": time.Now().Add(time.Hour).Unix()})),
		"another issuer":                    sign(t, jwt.SigningMethodHS256, secret, claimsOf(s.who, jwt.MapClaims{"iss": "somebody"})),
		"another audience":                  sign(t, jwt.SigningMethodHS256, secret, claimsOf(s.who, jwt.MapClaims{"aud": "somebody"})),
		"no audience":                       sign(t, jwt.SigningMethodHS256, secret, claimsOf(s.who, jwt.MapClaims{"aud": nil})),
		"no subject":                        sign(t, jwt.SigningMethodHS256, secret, claimsOf(s.who, jwt.MapClaims{"sub": nil})),
		"no session":                        sign(t, jwt.SigningMethodHS256, secret, claimsOf(s.who, jwt.MapClaims{"sid": nil})),
		"a deleted API key":                 key["key"].(string),
		"an API key that never was":         "vr_" + strings.Repeat("0", 64),
		"an API key too short":              "vr_" + strings.Repeat("0", 62),
		"an API key too long":               "vr_" + strings.Repeat("0", 66),
		"no hexadecimal API key":            "vr_" + strings.Repeat("g", 64),
		"the prefix of an API key":          "vr_",
		"something very long":               strings.Repeat("x", 20_000),
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestForgedExpiredAndRevokedCredentialsOpenNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stranger := newClient(t, s.Server)
	bad := forgeries(t, s)
	s.nothingChanges(t, func() {
		for _, r := range targets {
			if r.public() && r.template() != "/api/auth/refresh" {
				continue
			}
			body := r.valid
			if r.template() == "/api/auth/refresh" {
				body = nil
			}
			for name, credential := range bad {
				for _, c := range []client{stranger.bearing(credential), stranger.with("X-API-Key", credential)} {
					got := c.must(r.method(), s.path(r), body, 401)
					requireRefusal(t, got, 401, r.route+" with "+name)
					require.Contains(t, got.Header.Get("WWW-Authenticate"), "Bearer")
				}
			}
		}
	})
}

func TestWithoutCredentialsOnlyTheDoorsAreOpen(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stranger := newClient(t, s.Server)
	s.nothingChanges(t, func() {
		for _, r := range targets {
			if r.public() {
				continue
			}
			for _, c := range []client{
				stranger, stranger.with("Authorization", ""), stranger.with("Authorization", "Bearer"), stranger.with("Authorization", "Basic YTpi"),
				stranger.with("Authorization", strings.TrimPrefix(s.header.Get("Authorization"), "Bearer ")),
			} {
				got := requireRefusal(t, c.must(r.method(), s.path(r), r.valid, 401), 401, r.route)
				require.Contains(t, got["error"], "Sign in")
			}
		}
	})
}

func TestAnUnknownCallerIsRefusedBeforeTheBodyIsSent(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	body := &countingReader{Reader: strings.NewReader(strings.Repeat("x", function))}
	r, err := http.NewRequest("POST", s.URL+"/api/functions", body)
	require.NoError(t, err)
	r.ContentLength = function
	r.Header.Set("Expect", "100-continue")
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	require.Zero(t, body.read.Load())
}

// countingReader counts the bytes that somebody reads.
type countingReader struct {
	io.Reader
	read atomic.Int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.read.Add(int64(n))
	return n, err
}

func TestAGoodTokenOfTheseTestsIsAccepted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	token := sign(t, jwt.SigningMethodHS256, []byte(resttest.Secret), claimsOf(s.who, nil))
	newClient(t, s.Server).bearing(token).must("GET", "/api/auth/me", nil, 200)
}
