package proof

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Key signs heads. It knows the keys that signed before it, so that a log can outlive its key.
type Key struct {
	PublicKeys
	Source string // where it stands, for the operator; may be empty
	signer note.Signer
	public string
}

// GenerateKey makes a new key, as the text that ParseKey reads. Its name is the log's origin: nobody else's has it.
func GenerateKey() string {
	name := "voltrun/" + strings.ToLower(rand.Text()[:10])
	private, _, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		panic(err) // only when there is no randomness
	}
	return private
}

// ParseKey reads a private key in the form of golang.org/x/mod/sumdb/note ("PRIVATE+KEY+…"). Behind it, separated by white
// space, may stand the public keys of those that signed the log before.
func ParseKey(text string) (*Key, error) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return nil, errors.New("there is no signing key; voltrun makes one when it starts without")
	}
	signer, err := note.NewSigner(fields[0])
	if err != nil {
		return nil, fmt.Errorf("the signing key cannot be used: %w", err)
	}
	public, err := publicKeyOf(signer.Name(), fields[0])
	if err != nil {
		return nil, err
	}
	known, err := ParsePublicKeys(append(fields[1:], public)...)
	if err != nil {
		return nil, err
	}
	return &Key{PublicKeys: known, signer: signer, public: public}, nil
}

// publicKeyOf derives the public key of a private one that note.NewSigner has taken: PRIVATE+KEY+name+hash+base64, where
// the base64 is of the algorithm's number and the seed.
func publicKeyOf(name, private string) (string, error) {
	seed, err := base64.StdEncoding.DecodeString(strings.SplitN(private, "+", 5)[4])
	if err != nil {
		return "", fmt.Errorf("the signing key cannot be used: %w", err)
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	return note.NewEd25519VerifierKey(name, public)
}

// Public is the key that checks what this one signs, in the form of golang.org/x/mod/sumdb/note.
func (k *Key) Public() string { return k.public }

// PublicKeys are the keys whose signatures count.
type PublicKeys struct {
	verifiers note.Verifiers
	names     []string
}

// ParsePublicKeys reads public keys in the form of golang.org/x/mod/sumdb/note ("name+hash+key").
func ParsePublicKeys(texts ...string) (PublicKeys, error) {
	var list []note.Verifier
	for _, text := range texts {
		verifier, err := note.NewVerifier(text)
		if err != nil {
			return PublicKeys{}, fmt.Errorf("%q is not a public key of a VoltRun: %w", text, err)
		}
		list = append(list, verifier)
	}
	return PublicKeys{verifiers: note.VerifierList(list...), names: texts}, nil
}

// List returns the keys in the form that ParsePublicKeys reads.
func (p PublicKeys) List() []string { return append([]string(nil), p.names...) }

// String names the keys.
func (p PublicKeys) String() string { return strings.Join(p.names, " or ") }
