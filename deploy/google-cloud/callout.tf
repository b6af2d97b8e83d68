# SPDX-License-Identifier: Apache-2.0
# callout-host behind a regional Application Load Balancer, for plugins with hooks for headers; names of hashicorp/google
# 7.45. `callout-host --print_config=gcloud` prints timeout, events and attributes for other plugins. Terraform has no
# field for body modes: plugins that take whole bodies need gcloud instead. Start the host with --early_end=off.

variable "region" { type = string }
variable "forwarding_rule" { type = string } # the self link of the load balancer's
variable "instance_group" { type = string }  # where the host runs, or a network endpoint group

resource "google_compute_region_health_check" "callout" {
  name   = "callout-host"
  region = var.region
  # Twice within the host's --drain_delay_ms of 5000.
  check_interval_sec  = 1
  timeout_sec         = 1
  healthy_threshold   = 1
  unhealthy_threshold = 2
  http_health_check {
    port         = 8000
    request_path = "/"
  }
}

resource "google_compute_region_backend_service" "callout" {
  name                  = "callout-host"
  region                = var.region
  protocol              = "HTTP2" # the host's TLS listener, 8443; "H2C" for its plaintext one, 8080
  port_name             = "grpc"
  load_balancing_scheme = "INTERNAL_MANAGED"
  health_checks         = [google_compute_region_health_check.callout.id]
  backend {
    group           = var.instance_group
    balancing_mode  = "UTILIZATION"
    capacity_scaler = 1.0
  }
}

resource "google_network_services_lb_traffic_extension" "callout" {
  name                  = "callout-host"
  location              = var.region
  load_balancing_scheme = "INTERNAL_MANAGED"
  forwarding_rules      = [var.forwarding_rule]

  extension_chains {
    name = "chain1"
    match_condition {
      cel_expression = "request.path.startsWith('/')"
    }
    extensions {
      name             = "callout-host"
      authority        = "callout.example.com"
      service          = google_compute_region_backend_service.callout.self_link
      timeout          = "0.250s" # longer than --hook_deadline_ms, for each plugin of a message
      fail_open        = false
      supported_events = ["REQUEST_HEADERS", "RESPONSE_HEADERS"]
    }
  }
}
