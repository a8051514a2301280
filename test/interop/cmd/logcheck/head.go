package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cairn.test/interop/internal/logfiles"
	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// head is what the log signed.
type head struct {
	origin   string
	size     int64
	root     tlog.Hash
	verifier note.Verifier
}

// openHead reads the checkpoint and verifies the log's signature and one of each cosigner.
func openHead(log *logfiles.Log, vkey string, cosigners []string) (head, error) {
	raw, err := log.Read("checkpoint")
	if err != nil {
		return head{}, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return head{}, fmt.Errorf("vkey %q: %w", vkey, err)
	}
	head, err := openNote(raw, verifier)
	if err != nil {
		return head, fmt.Errorf("checkpoint: %w", err)
	}
	for _, cosigner := range cosigners {
		verifier, err := cosignature.NewVerifierForCosignatureV1(cosigner)
		if err != nil {
			return head, fmt.Errorf("cosigner %q: %w", cosigner, err)
		}
		if _, err := note.Open(raw, note.VerifierList(verifier)); err != nil {
			return head, fmt.Errorf("cosigner %s: %w", verifier.Name(), err)
		}
	}
	return head, nil
}

func openNote(raw []byte, verifier note.Verifier) (head, error) {
	opened, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		return head{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 {
		return head{}, fmt.Errorf("%d lines in the body, want origin, size and root", len(lines)-1)
	}
	if lines[0] != verifier.Name() {
		return head{}, fmt.Errorf("origin %q, the key is of %q", lines[0], verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return head{}, fmt.Errorf("size %q", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return head{}, errors.New("root is not base64 of a hash")
	}
	return head{origin: lines[0], size: size, root: tlog.Hash(root), verifier: verifier}, nil
}
