package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// logged is a log that is read while it is written.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A program that is started to replace this one and does nothing is ended, so that another one can be tried; one that
// has said so is not.
func TestRespawnedProgramThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hangs")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var log logged
	r := &respawner{log: slog.New(slog.NewTextHandler(&log, nil)), path: path, patience: 100 * time.Millisecond}
	ended := func() bool { return r.pid.Load() == 0 }
	for range 2 {
		r.respawn()
		r.met(os.Getpid()) // another one
		waittest.Until(t, "the program is ended", ended)
	}
	if text := log.String(); strings.Count(text, "is started") != 2 || strings.Count(text, "is ended") != 2 {
		t.Errorf("of two programs was logged\n%s", text)
	}
	r.patience = time.Hour
	r.respawn()
	r.met(int(r.pid.Load()))
	p, err := os.FindProcess(int(r.pid.Load()))
	if err != nil {
		t.Fatal(err)
	}
	r.giveUp(p) // as where the time was over just when it said so
	if text := log.String(); strings.Count(text, "is ended") != 2 {
		t.Errorf("a program that has said what it wants was ended:\n%s", text)
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	waittest.Until(t, "the program is ended", ended)
}
