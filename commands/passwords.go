package commands

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/crypto/bcrypt"
)

// Passwords hashes and checks passwords with bcrypt. Hashing is meant to be slow, so only half of the cores do it at a
// time: a flood of logins cannot keep the functions from running.
type Passwords struct {
	cost  int
	slots chan struct{}
	decoy []byte
}

// NewPasswords makes the hasher. cost is bcrypt's; bcrypt.DefaultCost is right for anything but a test.
func NewPasswords(cost int) (*Passwords, error) {
	p := &Passwords{cost: cost, slots: make(chan struct{}, max(1, runtime.NumCPU()/2))}
	decoy, err := p.Hash(context.Background(), rand.Text())
	if err != nil {
		return nil, err
	}
	p.decoy = decoy
	return p, nil
}

// Hash returns the password's salted hash.
func (p *Passwords) Hash(ctx context.Context, password string) ([]byte, error) {
	if err := p.enter(ctx); err != nil {
		return nil, err
	}
	defer p.leave()
	hash, err := bcrypt.GenerateFromPassword(digest(password), p.cost)
	if err != nil {
		return nil, fmt.Errorf("hash a password: %w", err)
	}
	return hash, nil
}

// Check tells whether hash is the password's. With a nil hash it answers false after the same work, so that nobody can
// tell by the time whether an account exists.
func (p *Passwords) Check(ctx context.Context, hash []byte, password string) (bool, error) {
	if err := p.enter(ctx); err != nil {
		return false, err
	}
	defer p.leave()
	against := hash
	if hash == nil {
		against = p.decoy
	}
	err := bcrypt.CompareHashAndPassword(against, digest(password))
	if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, fmt.Errorf("check a password: %w", err)
	}
	return err == nil && hash != nil, nil
}

func (p *Passwords) enter(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Passwords) leave() { <-p.slots }

// digest makes every password fit into bcrypt, which reads 72 bytes and stops at a NUL. Base64 has no NUL.
func digest(password string) []byte {
	sum := sha256.Sum256([]byte(password))
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}
