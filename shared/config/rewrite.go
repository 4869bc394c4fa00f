package config

// EndpointHost stands for the chosen endpoint's own host in a rewrite.
const EndpointHost = "endpoint"
