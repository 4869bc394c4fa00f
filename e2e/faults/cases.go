package faults

import (
	"syscall"
	"time"

	"gateway.internal/controlplane/testserver"
)

// Faults are all of them, in the order in which they go over the system.
func Faults() []Fault {
	const lasts = 10 * time.Second
	stores := func(do func(*testserver.Wire)) func(*System) {
		return func(s *System) {
			for _, r := range s.replicas {
				do(r.store)
			}
		}
	}
	etcds := func(do func(*testserver.Wire)) func(*System) {
		return func(s *System) {
			for _, r := range s.replicas {
				do(r.etcd)
			}
		}
	}
	return []Fault{
		{Name: "nothing", Begin: func(*System) {}, End: func(*System) {}, Lasts: lasts, Finds: true},
		{Name: "PostgreSQL killed", Begin: func(s *System) { s.postgres.Stop() },
			End: func(s *System) { s.postgres.Start() }, Lasts: lasts},
		{
			Name: "PostgreSQL frozen", Lasts: 2 * lasts,
			Begin: stores((*testserver.Wire).Freeze), End: stores((*testserver.Wire).Thaw),
		},
		{
			Name: "PostgreSQL cut off", Lasts: lasts,
			Begin: stores((*testserver.Wire).Cut), End: stores((*testserver.Wire).Mend),
		},
		{Name: "PostgreSQL frozen for one control plane", Begin: func(s *System) { s.replicas[0].store.Freeze() },
			End: func(s *System) { s.replicas[0].store.Thaw() }, Lasts: 2 * lasts},
		{Name: "PostgreSQL's disk full", Begin: func(s *System) { s.fill(s.disk) }, End: (*System).free, Lasts: lasts,
			Skip: func(s *System) string { return noDisk(s.disk) }},
		{Name: "PostgreSQL restored from a backup", Begin: func(s *System) { s.backup = s.postgres.Dump() },
			End: func(s *System) { s.postgres.Restore(s.backup) }, Lasts: lasts, Restores: true},
		{Name: "a control plane killed", Begin: func(s *System) { s.replicas[0].kill() },
			End: func(s *System) { s.replicas[0].start() }, Lasts: lasts},
		{Name: "a control plane frozen", Begin: func(s *System) { s.replicas[0].signal(syscall.SIGSTOP) },
			End: func(s *System) { s.replicas[0].signal(syscall.SIGCONT) }, Lasts: 2 * lasts},
		{Name: "all control planes killed", Begin: func(s *System) {
			for _, r := range s.replicas {
				r.kill()
			}
		}, End: func(s *System) {
			for _, r := range s.replicas {
				r.start()
			}
		}, Lasts: lasts, Finds: true},
		{Name: "etcd killed", Begin: func(s *System) { s.etcd.Kill() },
			End: func(s *System) { s.etcd.Restart() }, Lasts: lasts, Finds: true},
		{
			Name: "etcd frozen", Lasts: 2 * lasts, Finds: true,
			Begin: etcds((*testserver.Wire).Freeze), End: etcds((*testserver.Wire).Thaw),
		},
		{
			Name: "etcd cut off", Lasts: lasts, Finds: true,
			Begin: etcds((*testserver.Wire).Cut), End: etcds((*testserver.Wire).Mend),
		},
		{Name: "etcd's disk full", Begin: (*System).fillEtcd, End: (*System).freeEtcd, Lasts: lasts, Finds: true,
			Skip: func(s *System) string { return noDisk(s.etcdDisk) }},
		{
			Name: "etcd's quota used up", Lasts: lasts, Finds: true,
			Begin: (*System).useUpQuota, End: (*System).giveQuota,
		},
		{Name: "etcd lost, all control planes killed", Begin: func(s *System) {
			s.etcd.Replace()
			for _, r := range s.replicas {
				r.kill()
				r.start()
			}
		}, End: func(s *System) { s.register(s.services[0]) }, Lasts: lasts, Finds: true},
	}
}
