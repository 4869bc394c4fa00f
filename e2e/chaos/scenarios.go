package chaos

// scenarios are those that every proxy can go through.
func scenarios() []*scenario {
	return []*scenario{
		{
			name: "an endpoint is killed, and comes back", posts: postWorkers,
			begin: func(r *run) { r.endpoints[0].kill() },
			end:   func(r *run) { r.endpoints[0].start() },
		},
		{
			name:  "an endpoint refuses connections",
			begin: func(r *run) { r.endpoints[0].tell("refuse") },
			end:   func(r *run) { r.endpoints[0].tell("listen") },
		},
		{
			name:  "an endpoint's address is a black hole",
			begin: func(r *run) { r.endpoints[0].tell("blackhole") },
			end:   func(r *run) { r.endpoints[0].tell("listen") },
		},
		{
			name: "all endpoints are killed, and come back", outage: true,
			begin: func(r *run) {
				for _, e := range r.endpoints {
					e.kill()
				}
			},
			end: func(r *run) {
				for _, e := range r.endpoints {
					e.start()
				}
			},
		},
	}
}
