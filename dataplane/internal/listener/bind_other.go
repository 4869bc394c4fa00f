//go:build !unix

package listener

import "syscall"

func lockFolder(string) (unlock func(), err error) { return func() {}, nil }

func restrict(syscall.RawConn, SocketMode) error { return nil }

func descriptors() (uint64, bool) { return 0, false }
