(least) => {
  // Contrast of every visible text with what lies behind it, by WCAG's formula. Text over images is left out.
  const rgba = (text) => {
    const found = text.match(/[\d.]+/g).map(Number);
    return found.length === 3 ? [...found, 1] : found;
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const light = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map((each) => each / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      const color = rgba(getComputedStyle(each).backgroundColor);
      if (color[3] > 0) layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((below, above) => over(above, below), [255, 255, 255, 1]);
  };
  const weak = [];
  let looked = 0;
  const root = document.querySelector("dialog[open]") ?? document.body;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const content = walker.currentNode.data.trim();
    const drawn = element instanceof SVGElement;
    if (!content || element.closest(".unseen, .skip, [hidden], noscript, script, button:disabled")) continue;
    if (!drawn && element.offsetParent === null && getComputedStyle(element).position !== "fixed") continue;
    const style = getComputedStyle(element);
    const back = behind(element);
    const front = over(rgba(drawn ? style.fill : style.color), back);
    const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    looked++;
    if (contrast < least) weak.push(`${content}: ${contrast.toFixed(2)} (${element.className || element.tagName})`);
  }
  return { looked_at: looked, weak };
}
