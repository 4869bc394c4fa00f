package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"gateway.internal/shared/bearer"
)

// token returns a secret: of the environment, of a file, or one that is made once and kept in the data folder.
func token(log *slog.Logger, what, env, file, dataDir string) (string, error) {
	if t := os.Getenv(env); t != "" {
		return checked(t, "environment variable "+env)
	}
	path := file
	if path == "" {
		path = filepath.Join(dataDir, what+"-token")
	}
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		return checked(strings.TrimSpace(string(text)), path)
	case file != "" || !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s token: %w", what, err)
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", err
	}
	t := base64.RawURLEncoding.EncodeToString(secret[:])
	if err := os.WriteFile(path, []byte(t+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("%s token: %w", what, err)
	}
	log.Info("made a token", "for", what, "file", path)
	return t, nil
}

func checked(t, where string) (string, error) {
	if err := bearer.Check(t); err != nil {
		return "", fmt.Errorf("%s: %w (without one the control plane makes it, in its data folder)", where, err)
	}
	return t, nil
}
