// The line on a piano roll follows its audio, and a click on the roll plays from there. Without script, all else works.
for (const figure of document.querySelectorAll(".excerpt")) {
  const audio = figure.querySelector("audio");
  const roll = figure.querySelector(".roll");
  const plot = roll.querySelector(".scroll svg");
  const line = roll.querySelector(".playhead");
  const seconds = Number(roll.dataset.seconds);
  const follow = () => {
    const place = `${Math.min(100, (100 * audio.currentTime) / seconds)}%`;
    line.setAttribute("x1", place);
    line.setAttribute("x2", place);
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    roll.classList.add("playing");
    follow();
  });
  audio.addEventListener("seeked", follow);
  plot.addEventListener("click", (event) => {
    const box = plot.getBoundingClientRect();
    audio.currentTime = (seconds * (event.clientX - box.left)) / box.width;
    audio.play();
  });
}
