"""``rag-app doctor``: what would run here, and what to do about what would not."""

import click

from rag_app.cli.common import (
    about_config_file,
    common_options,
    echo,
    load,
    print_json,
    wants_json,
)


@click.command(
    "doctor", epilog="\b\nExamples:\n  rag-app doctor\n  rag-app --profile gpu doctor --json"
)
@common_options
def doctor_command() -> None:
    """Check versions, device, model, Milvus, LLM and collection; exit 1 if something fails."""
    config = load()
    from rag_app.doctor import Check, examine  # torch, Milvus: 3 s

    checks = [Check("configuration", True, about_config_file()), *examine(config)]
    if wants_json():
        print_json([check.to_dict() for check in checks])
    else:
        for check in checks:
            echo("ok  " if check.ok else "FAIL", fg="green" if check.ok else "red", nl=False)
            echo(f"  {check.name}: {check.finding}")
            if check.remedy:
                echo(f"        try: {check.remedy}")
    if not all(check.ok for check in checks):
        click.get_current_context().exit(1)
