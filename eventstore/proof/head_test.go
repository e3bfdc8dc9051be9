package proof

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestAHeadOpensForItsKeyOnly(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	grown := &tree{}
	grown.add(tlog.RecordHash([]byte("leaf")), func(tileKey, []byte) {})
	head, err := key.sign(grown, time.Now())
	require.NoError(t, err)
	public, err := ParsePublicKeys(key.Public())
	require.NoError(t, err)
	opened, err := public.Open(head.Note)
	require.NoError(t, err)
	require.Equal(t, Head{Size: 1, Root: grown.root(), Note: head.Note}, opened)

	_, err = newKey(t).Open(head.Note)
	require.ErrorContains(t, err, "is signed by "+key.signer.Name())
}

// Somebody who gets something else signed by the key must not have a head by that.
func TestWhatIsSignedButNoHeadOfThisLogIsRefused(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	name, root := key.signer.Name(), tlog.Hash{1}.String()
	for _, text := range []string{
		"another/log\n1\n" + root + "\n",
		name + "\n01\n" + root + "\n",
		name + "\n-1\n" + root + "\n",
		name + "\n+1\n" + root + "\n",
		name + "\n1\n" + root[1:] + "\n",
		name + "\n1\n",
		"hello\n",
	} {
		signed, err := note.Sign(&note.Note{Text: text}, key.signer)
		require.NoError(t, err)
		_, err = key.Open(string(signed))
		require.Error(t, err, "%q", text)
	}
	_, err := key.Open("hello")
	require.ErrorContains(t, err, "is not a signed note")
}

func TestAKeyIsReadAsItWasMade(t *testing.T) {
	t.Parallel()
	for range 100 { // the base64 of some has a plus, which separates the parts as well
		newKey(t)
	}
	require.NotEqual(t, newKey(t).signer.Name(), newKey(t).signer.Name())
	for _, text := range []string{"", "hello", "PRIVATE+KEY+a+00000000+AA==", newKey(t).Public()} {
		_, err := ParseKey(text)
		require.Error(t, err, text)
	}
	_, err := ParseKey(GenerateKey() + " hello")
	require.ErrorContains(t, err, `"hello" is not a public key`)
}
