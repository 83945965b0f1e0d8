# Sourced by the image's start script before each start of the daemon: a private swarm has no public bootstrap, and its
# key goes with TCP only.
ipfs bootstrap rm --all
ipfs config --json AutoConf.Enabled false
ipfs config --json AutoTLS.Enabled false
ipfs config --json DNS.Resolvers '{}'
ipfs config --json Routing.DelegatedRouters '[]'
ipfs config --json Ipns.DelegatedPublishers '[]'
ipfs config Routing.Type dht
ipfs config --json Addresses.Swarm '["/ip4/0.0.0.0/tcp/4001"]'
ipfs config --json Swarm.DisableNatPortMap true
ipfs config --json Swarm.Transports.Network '{"QUIC": false, "WebTransport": false, "WebRTCDirect": false}'
ipfs config --json Pubsub.Enabled true
ipfs config --json Ipns.UsePubsub true
