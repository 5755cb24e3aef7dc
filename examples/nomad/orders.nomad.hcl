job "orders" {
  group "orders" {
    count = 2

    network { port "http" { to = 8080 } }

    service {
      name     = "orders"
      port     = "http"
      provider = "nomad"
      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "2s"
        # Later than bookend's own threshold: evidence comes first.
        check_restart { limit = 6 grace = "60s" }
      }
    }

    task "orders" {
      driver       = "docker"
      config {
        image = "registry.example.com/orders:1.4.2"
        ports = ["http"]
      }
      # Five seconds unless you say so; the client's max_kill_timeout (30s) is above it.
      kill_timeout = "30s"
      shutdown_delay = "5s"
      resources { memory = 2048 }
    }
  }
}
