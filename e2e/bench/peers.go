package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// peer is a kind of proxy.
type peer interface {
	name() string
	// can tells whether it is able to do what a setup asks for.
	can(s setup) bool
	// launch starts it with a setup on an address, and writes its files to a folder.
	launch(b *bench, s setup, address, dir string) (*process, error)
}

// peers are all proxies, ours first.
func (b *bench) peers() []peer {
	all := []peer{gateway{called: "gateway", bin: b.bin}}
	if b.base != "" {
		all = append(all, gateway{called: "gateway, base", bin: b.base, base: true})
	}
	all = append(all, gateway{called: withoutFeature, bin: b.bin, without: true})
	if b.noLoops {
		args := []string{"--event-loops=false"}
		all = append(all, gateway{called: "gateway, no event loops", bin: b.bin, args: args, http1Only: true})
	}
	if !b.alone {
		all = append(all, nginxPeer{}, haproxy{}, h2o{}, envoy{})
	}
	return all
}

func (b *bench) start(p peer, s setup) (target, error) {
	port, err := freePort()
	if err != nil {
		return target{}, err
	}
	b.started++
	dir := filepath.Join(b.dir, fmt.Sprint("proxy", b.started))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return target{}, err
	}
	s.cores = max(s.cores, 1)
	address := "127.0.0.1:" + port
	t := target{peer: p, setup: s, address: address, url: "http://" + address + s.path()}
	if s.tls {
		t.url = "https" + strings.TrimPrefix(t.url, "http")
	}
	if t.process, err = p.launch(b, s, address, dir); err != nil {
		return target{}, err
	}
	return t, t.process.await(address)
}
