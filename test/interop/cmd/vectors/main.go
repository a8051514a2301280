// Vectors writes test vectors for Cairn's texts, made by code that is not Cairn's: golang.org/x/mod/sumdb/note and tlog,
// and the cosignatures of github.com/transparency-dev/formats. Keys come from fixed seeds, so a repeat gives the same bytes.
//
//	vectors FOLDER
package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/transparency-dev/formats/log"
	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: vectors FOLDER")
		os.Exit(2)
	}
	for name, vectors := range map[string]any{
		"from-go-notes.json":        notes(),
		"from-go-cosignatures.json": cosignatures(),
		"from-go-proofs.json":       proofs(),
	} {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		must(encoder.Encode(vectors))
		must(os.WriteFile(filepath.Join(os.Args[1], name), text.Bytes(), 0o644))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// seedOf is 32 times the same byte.
func seedOf(b byte) []byte { return bytes.Repeat([]byte{b}, ed25519.SeedSize) }

type signer struct {
	note.Signer
	vkey string
}

func signerOf(name string, seed byte) signer {
	private := ed25519.NewKeyFromSeed(seedOf(seed))
	vkey, err := note.NewEd25519VerifierKey(name, private.Public().(ed25519.PublicKey))
	must(err)
	verifier, err := note.NewVerifier(vkey)
	must(err)
	encoded := base64.StdEncoding.EncodeToString(append([]byte{1}, seedOf(seed)...))
	made, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, verifier.KeyHash(), encoded))
	must(err)
	return signer{made, vkey}
}

func signed(text string, signers ...note.Signer) string {
	raw, err := note.Sign(&note.Note{Text: text}, signers...)
	must(err)
	return string(raw)
}

type noteVector struct {
	Comment string `json:"comment"`
	Seed    string `json:"seed,omitempty"` // of the only signer
	Vkey    string `json:"vkey"`
	Body    string `json:"body"`
	Note    string `json:"note"`
}

func notes() []noteVector {
	one, two, odd := signerOf("example.org/one", 1), signerOf("example.org/two", 2), signerOf("héllo.example/日志", 3)
	vector := func(comment string, by signer, seed byte, body string, others ...note.Signer) noteVector {
		text := signed(body, append([]note.Signer{by}, others...)...)
		v := noteVector{Comment: comment, Vkey: by.vkey, Body: body, Note: text}
		if len(others) == 0 {
			v.Seed = hex.EncodeToString(seedOf(seed))
		}
		return v
	}
	return []noteVector{
		vector("one line", one, 1, "hello\n"),
		vector("empty lines inside the text: the last one ends it", one, 1, "a\n\nb\n\n\nc\n"),
		vector("a text that ends with an empty line", one, 1, "a\n\n"),
		vector("a text that looks like a signature line", one, 1, "— example.org/two AAAAAAAA\n"),
		vector("a name that is not ASCII", odd, 3, "grüße\n"),
		vector("a second signature by a key that is not known", one, 1, "hello\n", two),
		vector("the known signature comes second", two, 2, "hello\n", one),
	}
}

type cosignatureVector struct {
	Comment     string `json:"comment"`
	Seed        string `json:"seed"` // of the cosigner
	Cosigner    string `json:"cosigner"`
	Vkey        string `json:"vkey"`
	Checkpoint  string `json:"checkpoint"` // signed by the log alone
	Line        string `json:"line"`
	TimeSeconds uint64 `json:"timeSeconds"`
}

// cosignatures are of fixed times, so not made by the formats library, which signs the present; it verifies each and
// reads its time back.
func cosignatures() []cosignatureVector {
	var vectors []cosignatureVector
	for i, timeSeconds := range []uint64{0, 1, 1_700_000_000, 1<<53 - 1} {
		logSigner, cosigner := signerOf("example.org/log", 4), signerOf("example.org/log/s1", 5)
		vkey, err := cosignature.VKeyToCosignatureV1(cosigner.vkey)
		must(err)
		body := log.Checkpoint{Origin: "example.org/log", Size: uint64(i) * 1000, Hash: seedOf(byte(i))}.Marshal()
		checkpoint := signed(string(body), logSigner)
		line := cosignatureLine(vkey, body, timeSeconds, 5)
		verifier, err := cosignature.NewVerifierForCosignatureV1(vkey)
		must(err)
		opened, err := note.Open([]byte(checkpoint+line), note.VerifierList(verifier)) // the library's own word on it
		must(err)
		at, err := cosignature.CoSigV1Timestamp(opened.Sigs[0])
		must(err)
		if uint64(at.Unix()) != timeSeconds {
			panic("the library reads another time")
		}
		vectors = append(vectors, cosignatureVector{
			Comment: fmt.Sprintf("at %d seconds", timeSeconds), Seed: hex.EncodeToString(seedOf(5)),
			Cosigner: vkey, Vkey: logSigner.vkey, Checkpoint: checkpoint, Line: line, TimeSeconds: timeSeconds,
		})
	}
	return vectors
}

func cosignatureLine(vkey string, body []byte, timeSeconds uint64, seed byte) string {
	verifier, err := cosignature.NewVerifierForCosignatureV1(vkey)
	must(err)
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", timeSeconds, body)
	raw := binary.BigEndian.AppendUint32(nil, verifier.KeyHash())
	raw = binary.BigEndian.AppendUint64(raw, timeSeconds)
	raw = append(raw, ed25519.Sign(ed25519.NewKeyFromSeed(seedOf(seed)), []byte(message))...)
	return fmt.Sprintf("— %s %s\n", verifier.Name(), base64.StdEncoding.EncodeToString(raw))
}

type proofVector struct {
	Comment string   `json:"comment"`
	Index   int64    `json:"index,omitempty"`
	OldSize int64    `json:"oldSize,omitempty"`
	Size    int64    `json:"size"`
	Leaf    string   `json:"leaf,omitempty"`
	OldRoot string   `json:"oldRoot,omitempty"`
	Root    string   `json:"root"`
	Path    []string `json:"path"`
}

// proofs are of trees whose entry i is the decimal number i.
func proofs() []proofVector {
	const size = 300
	var tree hashes
	for i := range int64(size) {
		stored, err := tlog.StoredHashes(i, []byte(fmt.Sprint(i)), tree)
		must(err)
		tree = append(tree, stored...)
	}
	root := func(n int64) tlog.Hash {
		hash, err := tlog.TreeHash(n, tree)
		must(err)
		return hash
	}
	var vectors []proofVector
	for _, at := range [][2]int64{{0, 1}, {0, 2}, {1, 2}, {2, 3}, {6, 7}, {0, 8}, {255, 256}, {256, 257}, {0, 257}, {129, 300}, {299, 300}} {
		index, size := at[0], at[1]
		path, err := tlog.ProveRecord(size, index, tree)
		must(err)
		vectors = append(vectors, proofVector{
			Comment: fmt.Sprintf("inclusion of %d in %d", index, size), Index: index, Size: size,
			Leaf: hexOf(tlog.RecordHash([]byte(fmt.Sprint(index)))), Root: hexOf(root(size)), Path: hexAll(path),
		})
	}
	for _, at := range [][2]int64{{1, 1}, {1, 2}, {2, 3}, {3, 7}, {4, 7}, {6, 8}, {255, 256}, {256, 257}, {128, 300}, {299, 300}} {
		old, size := at[0], at[1]
		path, err := tlog.ProveTree(size, old, tree)
		must(err)
		vectors = append(vectors, proofVector{
			Comment: fmt.Sprintf("consistency of %d with %d", old, size), OldSize: old, Size: size,
			OldRoot: hexOf(root(old)), Root: hexOf(root(size)), Path: hexAll(path),
		})
	}
	return vectors
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	read := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		read[i] = h[index]
	}
	return read, nil
}

func hexOf(hash tlog.Hash) string { return hex.EncodeToString(hash[:]) }

func hexAll[T ~[]tlog.Hash](path T) []string {
	words := make([]string, len(path))
	for i, hash := range path {
		words[i] = hexOf(hash)
	}
	return words
}
