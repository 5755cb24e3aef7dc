# The parts of a service that matter to bookend; yours has more.
resource "aws_ecs_task_definition" "orders" {
  family                   = "orders"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 2048
  memory                   = 4096
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.orders.arn
  container_definitions    = jsonencode(jsondecode(file("${path.module}/fargate.json")).containerDefinitions)
}

resource "aws_ecs_service" "orders" {
  name            = "orders"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.orders.arn
  desired_count   = 2
  launch_type     = "FARGATE"

  # Room for a replacement before the sick task is stopped: the time in which evidence is taken.
  deployment_maximum_percent         = 200
  deployment_minimum_healthy_percent = 100
  health_check_grace_period_seconds  = 120
}

resource "aws_iam_role_policy" "evidence" {
  role   = aws_iam_role.orders.id
  policy = file("${path.module}/policy.json")
}

# Whatever a killed task could not end: parts of uploads are billed until somebody removes them.
resource "aws_s3_bucket_lifecycle_configuration" "evidence" {
  bucket = "my-evidence"

  rule {
    id     = "evidence"
    status = "Enabled"
    filter { prefix = "bookend/" }
    expiration { days = 30 }
    abort_incomplete_multipart_upload { days_after_initiation = 1 }
  }
}
