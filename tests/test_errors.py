from vae_lab.errors import LabError, UserError, choices


def test_a_close_choice_is_suggested_and_all_are_listed() -> None:
    assert choices("vea", ["vae", "cvae"]) == "; did you mean vae? Valid: cvae, vae."


def test_without_a_close_choice_the_valid_ones_are_listed() -> None:
    assert choices("xyz", ["vae", "cvae"]) == ". Valid: cvae, vae."
    assert choices("xyz", []) == "."


def test_mistakes_and_failures_have_exit_codes_of_their_own() -> None:
    assert (UserError("x").exit_code, LabError("x").exit_code) == (2, 1)
